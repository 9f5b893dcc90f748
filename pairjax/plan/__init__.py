"""What a run needs of each device, before anything is rented: memory, arithmetic, traffic, time, the fastest mesh."""
