// Package tty is about terminals: the pseudo-terminal (pty(7)) that a container gets, and the real one that its user
// sits at.
//
// A pty has two ends. The container's processes have the slave as their standard streams and controlling terminal;
// whoever runs the container keeps the master, copies between it and the user's terminal, and tells it the window's
// size. [Open] makes one, [SendConsole] hands its master to another program, as the runtime specification's users
// expect it. On the user's side [MakeRaw] lets every key through, [WatchSize] follows the window, and a [DetachReader]
// finds the keys by which the user leaves while the container goes on; these work on every system that has the client.
package tty
