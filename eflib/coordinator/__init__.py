"""The coordinator: hosts the scheduler, makes generations, remembers by a journal."""
