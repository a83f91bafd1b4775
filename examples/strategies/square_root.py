"""A bid that grows with the square root of the value.

Where P(win at b) is b / (c + b), the bid that spends a second-price budget best is
sqrt(c * value / price + c * c) - c (Zhang, Yuan and Wang, "Optimal real-time bidding for display advertising", 2014).
"""

import math

from headrace import Ask, strategy


@strategy
def square_root(ask: Ask, c_cpm: float = 5_000_000, price: float = 1.0) -> float:
    """c_cpm : CPM micros at which half of the auctions are won.   price : of money, 1 while there is enough of it.

    The price follows the budget: with half of it left for a quarter of the traffic, money is half as dear.
    """
    if ask.budget_left <= 0.0:
        return 0.0
    dear = price * max(ask.time_left, 0.01) / max(ask.budget_left, 0.01)
    return math.sqrt(c_cpm * ask.value_cpm / dear + c_cpm * c_cpm) - c_cpm
