"""Shows what a run did and why: text, pictures, a page, a trace for Perfetto.

All of it works from a *run file* (`swapmem.explain.run_file`); nothing here touches an engine.
"""
