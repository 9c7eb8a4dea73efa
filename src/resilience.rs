//! Breaker, window, budget, hedge, limits, deadline: pure state machines; `now` is an argument.
