"""Whether a card's free memory is enough for a picture of the usual size."""

from __future__ import annotations

from sakuga.api.request import Request
from sakuga.api.resolved import resolve
from sakuga.commands.doctor.finding import Diagnosis, green, yellow
from sakuga.commands.plan import Asked
from sakuga.errors import BudgetTooSmall
from sakuga.memory.cards import nearest_card
from sakuga.memory.plan import Options
from sakuga.model.inventory import Inventory
from sakuga.printable import readable


def room(inventory: Inventory, title: str, free: int, dtype: str) -> Diagnosis:
    """Plan one picture of the model's own size.

    title: what its driver calls the card. free: bytes that may be reserved there.
    """
    drawing, tokens = inventory.spec.drawing, inventory.spec.gemma.trained_tokens
    request = resolve(Request("", seed=0), drawing)
    asked = Asked(inventory, free, nearest_card(title), Options(dtype), request, tokens)
    size = f"{drawing.width}x{drawing.height}"
    try:
        taken = asked.plan().reserved_bytes
    except BudgetTooSmall as error:
        says = f"{size} does not fit {readable(free)}: {error.rule}"
        return yellow("room", says, "Close what else uses the card, or ask for a smaller --size.")
    return green("room", f"{size} in {dtype} takes {readable(taken)} of {readable(free)}")
