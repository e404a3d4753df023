"""The mathematics: numpy on arrays, one model a module, no Flink."""
