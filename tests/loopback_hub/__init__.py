"""A Hub on this machine, for the real client: repositories, revisions, LFS uploads, atomic commits, injected faults."""
