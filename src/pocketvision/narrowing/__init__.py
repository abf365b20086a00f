"""NetAdapt on any network of ours: the steps, what scores proposals, and what is saved."""
