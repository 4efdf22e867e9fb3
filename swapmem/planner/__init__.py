"""The planner: a trace in, a plan out. Pure Python; knows no engine and no framework."""
