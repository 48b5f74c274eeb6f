package sandbox

// Overlay is what a sandbox also offers when the kernel lets it mount overlayfs
// (the namespaces sandbox does): internal/build keeps its snapshots as overlays
// then, and as plain folders otherwise.
type Overlay interface {
	// MountOverlay mounts lowers, topmost first, at merged. Without upper and
	// work it is read-only. Any number of lowers works.
	MountOverlay(merged, upper, work string, lowers []string) error
	// UnmountOverlay ends it.
	UnmountOverlay(merged string) error
	// UserXattr says that opaque folders carry user.overlay.opaque, as in a user
	// namespace, rather than trusted.overlay.opaque.
	UserXattr() bool
	// SingleOwner says that files can belong to one user only, because the
	// user namespace maps no other.
	SingleOwner() bool
}
