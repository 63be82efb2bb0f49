"""How many items of a run are begun at a time."""

from lm_deluge.schedule import Window


def begun(window: Window) -> int:
    count = 0
    while window.may_begin:
        window.begin()
        count += 1
    return count


def test_as_many_are_begun_as_requests_may_be_in_flight():
    window = Window(5)
    assert begun(window) == 5
    window.end()
    assert begun(window) == 1


def test_another_takes_the_place_of_one_that_rests_but_not_without_end():
    window = Window(5)
    total = 0
    while more := begun(window):
        total += more
        for _ in range(more):
            window.rest(1)
    assert total == 20


def test_many_may_wait_for_others():
    window = Window(5)
    total = 0
    while more := begun(window):
        total += more
        for _ in range(more):
            window.wait(1)
    assert total == 5 * (64 + 4)


def test_one_that_goes_on_may_be_one_too_many_until_another_is_over():
    window = Window(1)
    window.begin()
    window.rest(1)
    window.begin()
    assert window.may_go_on
    window.rest(-1)
    assert not window.may_go_on
    window.end()
    assert window.may_go_on
    assert not window.may_begin
