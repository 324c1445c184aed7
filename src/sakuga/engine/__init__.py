"""From a request to pictures, stage by stage, on one device."""

from sakuga.memory.host import prefer_sleeping_threads

prefer_sleeping_threads()  # which torch reads when it is loaded, as the files of this folder do
