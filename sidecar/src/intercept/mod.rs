//! The rules that bring all traffic for the model to the guard, and the check that they hold.
