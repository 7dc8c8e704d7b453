"""Traces: how long each step of a job took, at its tenant, the gateway and a node, for whoever runs a collector (OpenTelemetry)."""

from blindgate_telemetry.traces import JOB_PATH, NO_TRACES, Asked, Served, Traces, open_traces, wanted

__all__ = ["JOB_PATH", "NO_TRACES", "Asked", "Served", "Traces", "open_traces", "wanted"]
