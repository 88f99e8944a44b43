"""The notebooks' lessons: each script measures one of their claims and draws it."""
