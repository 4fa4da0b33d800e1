"""The engines that turn a Plan into kernel rules. They share the Plan and `base`, and nothing else."""
