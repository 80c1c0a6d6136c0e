//go:build !linux || (!amd64 && !arm64)

package busybox

const rootfs = ""
