"""What a request will cost: the planner's seconds, corrected by what drawings here have taken."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

from sakuga.api.engine_spec import Budget, EngineSpec
from sakuga.api.resolved import Resolved
from sakuga.checkpoint.folder import open_model, read_inventory
from sakuga.memory.cards import CARDS, CONTEXT, nearest_card
from sakuga.memory.costs import Work, expected_work
from sakuga.memory.monitor import first_card
from sakuga.memory.plan import MemoryPlan, Options, make_plan, parse_bytes
from sakuga.model.inventory import Inventory
from sakuga.model.spec import ModelSpec
from sakuga.server.database import Database

GENTLY = 0.3  # how far one drawing moves what is learned


@dataclass(frozen=True, slots=True)
class Served:
    """The model of a server, as far as its files say without being loaded."""

    model: ModelSpec
    inventory: Inventory


def served(spec: EngineSpec) -> Served:
    """What a spec serves. Raises ModelNotFound, WeightsError."""
    checkpoint = open_model(spec)
    return Served(checkpoint.spec, read_inventory(checkpoint))


class Cost:
    """Seconds of a request before it is drawn."""

    def __init__(self, model: Served, database: Database) -> None:
        self._model, self._database, self._lock = model, database, threading.Lock()
        here = first_card()
        self._card = CARDS["cpu"] if here is None else nearest_card(here.name)
        found = database.rows("SELECT value FROM learned WHERE name = 'pace'")
        self._pace = float(found[0]["value"]) if found else 1.0

    def seconds(self, request: Resolved) -> float:
        """What a request will take. Memory is the engine's matter: no plan is refused here."""
        card = replace(self._card, memory=1 << 50)
        options = Options(card.dtype)
        plan = make_plan(self._model.inventory, 1 << 50, self.work(request), card, options)
        return max(0.001, plan.seconds * self._pace)

    def plan(self, request: Resolved, budget: Budget, dtype: str) -> MemoryPlan:
        """How it would be run within a budget. Raises BudgetTooSmall and RequestError."""
        card, here = self._card, first_card()
        limit = None if here is None else here.free - CONTEXT
        if budget.vram != "auto":
            limit = parse_bytes(budget.vram)
        pinned = None if budget.pinned == "auto" else parse_bytes(budget.pinned)
        options = Options.of(budget, card.dtype if dtype == "auto" else dtype, pinned)
        return make_plan(self._model.inventory, limit, self.work(request), card, options)

    def work(self, request: Resolved) -> Work:
        """What a request asks of a card, its texts as long as those of training."""
        from sakuga.sample.solvers import find_solver  # noqa: PLC0415  # loads torch

        spec = self._model.inventory.spec
        solver = find_solver(request.solver, max(1, request.steps))
        evaluations = max(1, request.walked) * solver.evaluations
        return expected_work(request, spec, evaluations, spec.gemma.trained_tokens)

    def learn(self, request: Resolved, taken: float) -> None:
        """A request took some seconds; what is expected of it now may be others."""
        expected = self.seconds(request)
        with self._lock:
            ratio = min(10.0, max(0.1, taken / max(expected, 0.001)))
            self._pace = min(1e4, max(1e-4, self._pace * ratio**GENTLY))
            with self._database.changing() as rows:
                rows.execute("REPLACE INTO learned VALUES ('pace', ?)", (self._pace,))
