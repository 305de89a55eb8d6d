"""One module for each published result: a claim that could be false, its setting, its rows, figures and verdicts.

Run them with ``symfield run STUDY``; list them with ``symfield studies``. The contract is that of
:mod:`symfield.experiments`. Modules whose name starts with an underscore hold what several studies share.
"""
