package busybox

import _ "embed"

// A string, because it then stays in the file's read-only pages until somebody reads it.
//
//go:embed busybox_arm64.tar.gz
var rootfs string
