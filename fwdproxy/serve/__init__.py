"""The running program: `run` joins it, `loop` has event loop and signals, `logs` says where log lines go."""
