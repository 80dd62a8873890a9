"""Which checker looks at annotations in the tests? beartype; a whole number passes as a float."""

from beartype import BeartypeConf, beartype

typechecked = beartype(conf=BeartypeConf(is_pep484_tower=True))
