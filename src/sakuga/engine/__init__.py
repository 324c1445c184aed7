"""From a request to pictures, stage by stage, on one device."""
