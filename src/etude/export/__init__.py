"""Code to paste where étude is not installed: every rate of a run, written out for one framework."""

from etude.export.target import code as code
