"""Rules of IHE AI Results (AIR) for result objects of any maker. Pure: datasets in, findings out.

``objects`` reads what rules need and never fails; ``rules`` has the table and ``check``.
"""
