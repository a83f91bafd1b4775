"""How fast line items spend: the solver, the forecast, goals, plans, and dual updates where the forecast fails."""
