"""symfield: symmetry in neural networks, and what it does as they grow wide.

The top level exports modules, not names::

    from symfield import groups, equivariant, meanfield

Rooms, from the ground up: :mod:`~symfield.linalg`, :mod:`~symfield.trees`, :mod:`~symfield.ode`,
:mod:`~symfield.compiler`, :mod:`~symfield.random`, :mod:`~symfield.typing`; :mod:`~symfield.groups`;
:mod:`~symfield.testing`; :mod:`~symfield.equivariant`; :mod:`~symfield.symmetrize`, :mod:`~symfield.units`,
:mod:`~symfield.quadrature`; :mod:`~symfield.wide`; :mod:`~symfield.meanfield`, :mod:`~symfield.onestep`,
:mod:`~symfield.weightspace`, :mod:`~symfield.experiments`; :mod:`~symfield.studies`; the command line.
"""

__version__ = "0.1.0"
