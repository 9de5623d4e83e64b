"""The order of the data: every example once an epoch, a function of seed and epoch."""

from itertools import chain

from etude.train.order import Order


def drawn(order: Order, updates: int, count: int = 16) -> list[list[int]]:
    return [order.draw(count) for _ in range(updates)]


def test_an_epoch_holds_every_example_once_and_ends_with_a_smaller_batch():
    order = Order(examples=205, seed=17)
    batches = drawn(order, 3 * 13)
    for epoch in range(3):
        own = batches[13 * epoch : 13 * (epoch + 1)]
        assert [len(batch) for batch in own] == [16] * 12 + [13]
        assert sorted(chain(*own)) == list(range(205))
    assert batches[:13] != batches[13:26]
    assert (order.epoch, order.position, order.drawn) == (2, 205, 3 * 205)


def test_an_epoch_that_divides_has_no_empty_batch():
    assert [len(batch) for batch in drawn(Order(32, seed=1), 5)] == [16] * 5


def test_the_order_goes_on_from_its_state_wherever_it_was_left():
    whole = drawn(Order(50, seed=3), 20)
    for stop in range(20):
        order = Order(50, seed=3)
        drawn(order, stop)
        again = Order(50, **order.state())
        assert drawn(again, 20 - stop) == whole[stop:]
        assert again.state()["drawn"] == sum(map(len, whole))


def test_another_seed_is_another_order_and_epochs_of_neighbouring_seeds_differ():
    firsts = {tuple(Order(50, seed=seed, epoch=epoch).draw(50)) for seed in range(5) for epoch in range(5)}
    assert len(firsts) == 25
