"""Random networks, built for real: what packets do there is compared with what the walk says.

``generate`` draws a case as plain data, ``build`` makes its namespaces, ``probe`` sends real
packets and watches, ``tracing`` and ``counting`` tell of rules, ``compare`` holds all that
against the walk, ``shrink`` makes a disagreement small, ``judge`` does all of it for one case
and ``campaign`` for many. ``six`` makes a case of IPv6 of one of IPv4.
"""
