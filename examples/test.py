"""Edit the prompt, run the file, look at picture.png: python examples/test.py [MODEL]."""

from __future__ import annotations

import sys

import sakuga

prompt = """
<character_1>
<n>original</n>
<gender>1girl</gender>
<appearance>red_hair, long_hair, green_eyes</appearance>
<clothing>school_uniform</clothing>
<expression>smile</expression>
</character_1>
<general_tags>
<count>1girl, solo</count>
<background>beach</background>
</general_tags>
"""

if __name__ == "__main__":
    model = sys.argv[1] if len(sys.argv) > 1 else "chibi"
    path = sakuga.draw(prompt, seed=7, model=model).save("picture.png", overwrite=True)
    print(f"{path} is drawn.")  # noqa: T201  # a script talks to whoever runs it
