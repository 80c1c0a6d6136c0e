// Package volume keeps data that outlives containers: a folder per volume, volumes/<name>/{volume.json,_data}, readable
// with ls and cat, no database and no plugin.
//
// A volume is used by a container when the container's folder of users names it (Use, Release), so that neither removal
// nor prune can take it away from a container, running or not. Removing is a rename first: a volume is there as a whole
// or gone as a whole, also after a power cut.
//
// The driver "local" takes the options type, device and o of mount(8); such a volume is mounted on its _data while a
// container uses it (mount.go).
package volume
