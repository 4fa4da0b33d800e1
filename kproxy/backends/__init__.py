"""The engines that turn a Plan into kernel rules; they share the Plan, `base`, `bisect` and `walk`, nothing else."""
