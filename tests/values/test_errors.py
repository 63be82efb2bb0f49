"""The list of exceptions and warnings at the top of their module."""

import inspect
import re

from lm_deluge import errors


def test_the_list_has_each_exception_and_warning_and_its_place():
    listed = re.findall(r"^ {4}(?:[│ ]{4})*(?:[├└]── )?(\w+) ", errors.__doc__ + " ", re.MULTILINE)
    listed += re.findall(r"^ {4}(\w+)$", errors.__doc__, re.MULTILINE)
    raised = {name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)}
    assert set(listed) == raised == set(errors.__all__)
