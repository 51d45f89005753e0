"""Random networks, built for real: what packets do there is compared with what the walk says.

``generate`` draws a case as plain data, ``build`` makes its namespaces, ``probe`` sends real
packets and watches, ``compare`` holds that against the walk, ``shrink`` makes a disagreement
small, ``judge`` does all of it for one case.
"""
