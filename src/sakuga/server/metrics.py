"""What a server counts, for Prometheus: named as others name it; no label tells a prompt."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1200)


class Metrics:
    """The counters of one server."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self.waiting = Gauge("sakuga_num_queue_reqs", "Jobs that wait.", registry=registry)
        self.running = Gauge("sakuga_num_running_reqs", "Jobs being drawn.", registry=registry)
        self.requests = Counter(
            "sakuga_requests", "Requests answered.", ("route", "status"), registry=registry
        )
        self.latency = Histogram(
            "sakuga_request_latency_seconds", "From accepted to ended, of a job.", ("status",),
            buckets=BUCKETS, registry=registry,
        )  # fmt: skip
        self.queue_time = Histogram(
            "sakuga_queue_time_seconds", "From accepted to begun, of a job.", buckets=BUCKETS,
            registry=registry,
        )  # fmt: skip
        self.stages = Histogram(
            "sakuga_stage_latency_seconds", "Of a drawing.", ("stage",), buckets=BUCKETS,
            registry=registry,
        )  # fmt: skip
        self.jobs = Counter("sakuga_jobs", "Jobs ended.", ("state",), registry=registry)
        self.pictures = Counter("sakuga_pictures", "Pictures drawn.", registry=registry)
        self.batch = Histogram(
            "sakuga_generation_batch_size", "Pictures of a job.", buckets=(1, 2, 4, 8, 10),
            registry=registry,
        )  # fmt: skip
        self.restarts = Counter(
            "sakuga_replica_restarts", "Workers started after the first.", registry=registry
        )
        self.cancelled = Counter(
            "sakuga_cancelled", "Jobs cancelled.", ("where",), registry=registry
        )
        self.rejected = Counter(
            "sakuga_rejected", "Requests turned away.", ("reason",), registry=registry
        )
        self.failed = Counter("sakuga_failed", "Jobs failed.", ("code",), registry=registry)
        self.memory = Gauge("sakuga_worker_memory_bytes", "Of all workers.", registry=registry)

    def written(self) -> bytes:
        """All of it as Prometheus reads it."""
        return generate_latest(self._registry)
