from eflib.scheduling import Gpu
from eflib.scheduling.buddy import best_fit, capacity_by_exponent, is_block, positions
from eflib.scheduling.cluster import Cluster


def test_a_block_comes_from_the_smallest_free_buddy_that_holds_one():
    free = 0b1111_0011  # a whole block of four, and one of two
    assert best_fit(free, 1, low=True) == 0b0000_0011
    assert best_fit(free, 1, low=False) == 0b0000_0011
    assert best_fit(free, 2, low=True) == 0b1111_0000


def test_no_block_where_the_free_ones_are_not_aligned():
    assert best_fit(0b0110, 1, low=True) == 0


def test_only_aligned_powers_of_two_are_blocks():
    assert [is_block(mask) for mask in (0, 0b1, 0b11, 0b110, 0b1100, 0b111)] == [
        False, True, True, False, True, False,
    ]  # fmt: skip


def test_a_cluster_of_ten_nodes_of_eight_has_room_for_two_blocks_of_thirty_two():
    capacity = capacity_by_exponent((1 << 80) - 1)
    assert capacity == [80, 80, 80, 80, 80, 64, 64]


def test_equal_nodes_lie_side_by_side():
    cluster = Cluster()
    for node in range(3):
        cluster.join(f"n{node}", 3)
    assert cluster.available == (1 << 9) - 1
    assert cluster.gpus(0b1000) == (Gpu("n1", 0),)


def test_a_node_whose_size_is_a_power_of_two_is_a_block_of_its_own():
    cluster = Cluster()
    cluster.join("small", 1)
    cluster.join("large", 8)
    assert is_block(cluster.available & ~1)


def test_a_node_that_comes_back_takes_its_old_place():
    cluster = Cluster()
    cluster.join("a", 4)
    cluster.join("b", 4)
    before = cluster.gpus(cluster.available)
    cluster.lose("a")
    assert cluster.num_gpus == 4
    cluster.join("a", 4)
    assert cluster.gpus(cluster.available) == before


def test_losing_a_node_that_is_not_there_loses_nothing():
    cluster = Cluster()
    cluster.join("a", 2)
    assert cluster.lose("b") == 0
    assert positions(cluster.available) == [0, 1]
