"""What a server promises, held against strangers, faults and clocks."""
