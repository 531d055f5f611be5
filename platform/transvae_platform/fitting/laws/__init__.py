"""Laws of several variables on tables of many runs: forms, the solver, its proof, and the bootstrap over runs."""
