"""A report as one page of HTML that needs nothing else: to be kept, mailed or published.

Names and messages come from others. Jinja2 escapes them, and control characters are written
out before; the page asks the browser to run and to load nothing.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from kvmdiag.model.report import Report
from kvmdiag.reports import words
from kvmdiag.reports.escape import one_line

if TYPE_CHECKING:
    from jinja2 import Template

_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>kvmdiag: {{ summary | line }}</title>
<style>
:root { color-scheme: light dark; --bad: #c22; --warn: #a60; --good: #282; --dim: #777; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.3rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.faulty, .error { color: var(--bad); } .unknown, .warning { color: var(--warn); }
.healthy { color: var(--good); }
code, pre { font: 0.9em/1.4 ui-monospace, monospace; }
pre { overflow-x: auto; padding: 0.5rem; border: 1px solid var(--dim); border-radius: 4px; }
.dim { color: var(--dim); } article { margin: 1rem 0; }
</style>
</head>
<body>
<h1 class="{{ report.verdict }}">{{ summary | line }}</h1>
{% for role, title in roles.items() %}
{% for finding in report.findings if finding.role == role %}
{% if loop.first %}<h2>{{ title }}</h2>{% endif %}
<article>
<strong class="{{ finding.severity.value }}">{{ finding.check | line }}</strong>
<span class="dim">{{ finding.severity.value }} on {{ finding.subject | line }}</span>
<p>{{ finding.summary | line }}</p>
{% if finding.proof %}<p class="dim">Suspected only; proof: {{ finding.proof | line }}</p>{% endif %}
{% if finding.evidence %}<ul>
{% for evidence in finding.evidence %}
<li>{{ evidence.fact | line }} <span class="dim">{{ evidence.origin | line }}</span></li>
{% endfor %}</ul>{% endif %}
</article>
{% endfor %}
{% endfor %}
{% if report.plan and report.plan.steps %}
<h2>Repair: {{ promise | line }}</h2>
<ol>
{% for step in report.plan.steps %}
<li><pre>{{ step.command | line }}</pre>
changes {{ step.where | line }}, for {{ step.check | line }}
{% if step.disruptive %}<span class="warning">affects the traffic of others</span>{% endif %}
{% if step.undo %}<p class="dim">undo: <code>{{ step.undo | line }}</code></p>{% endif %}
{% if step.persist %}<p>keep: {{ step.persist | line }}</p>{% endif %}</li>
{% endfor %}
</ol>
{% for effect in report.plan.side_effects %}
<p class="warning">besides: {{ effect | line }}</p>
{% endfor %}
{% endif %}
{% if paths %}
<h2>Paths</h2>
<ul>
{% for state, name, told in paths %}
<li><span class="{{ state }}">{{ state }}</span> <strong>{{ name | line }}</strong>: {{ told | line }}</li>
{% endfor %}
</ul>
{% endif %}
{% for title, sentences in lists %}
{% for sentence in sentences %}
{% if loop.first %}<h2>{{ title }}</h2><ul>{% endif %}
<li>{{ sentence | line }}</li>
{% if loop.last %}</ul>{% endif %}
{% endfor %}
{% endfor %}
</body>
</html>
"""  # noqa: E501 - one element, one line
_STATE = {True: "healthy", False: "faulty", None: "unknown"}


def render(report: Report, *, verbose: int = 0) -> str:  # noqa: ARG001 - a page has room for all
    """The page."""
    paths = []
    for result in report.paths:
        walk = result.walk
        told = words.success(walk) if walk.works else words.ending(walk.decisive)
        told += f" ({', '.join(result.causes)})" if result.causes else ""
        paths.append((_STATE[walk.works], words.path(walk.question), told))
    return _template().render(
        report=report,
        summary=words.verdict(report),
        roles=words.ROLES,
        promise="" if report.plan is None else words.promise(report.plan),
        paths=paths,
        lists=(
            ("Left out", report.notes),
            ("Skipped", [f"{s.check} needs {s.needs}: {s.why}" for s in report.skipped]),
            ("Passed", report.passed),
        ),
    )


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["line"] = one_line
    return environment.from_string(_PAGE)
