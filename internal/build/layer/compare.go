package layer

import (
	"golang.org/x/sys/unix"
)

// Compare lists the changes from before to after, sorted.
//
// A regular file counts as modified when its inode, its change time or any of
// its attributes differ: its content is not read. For the paths in touched the
// change time is ignored: a sandbox renamed them. Other files count when their
// attributes differ. As with BuildKit, a folder's times alone are no change.
func Compare(before, after *Index, touched map[string]bool) []Change {
	return compare(before, after, func(old, now *entry) bool { return modified(old, now, touched[now.path]) })
}

// CompareOutline is Compare for a tree whose regular files may lack their content.
// One that has lost a hard link and is otherwise as it was is no change: nobody
// wrote it, and it could not be packed.
func CompareOutline(before, after *Index) []Change {
	return compare(before, after, func(old, now *entry) bool {
		// An inode that keeps a link is not given to another file.
		if isType(now.mode, unix.S_IFREG) && old.ino == now.ino && now.nlink < old.nlink {
			was := *old
			was.nlink, was.ctime = now.nlink, now.ctime
			return modified(&was, now, false)
		}
		return modified(old, now, false)
	})
}

func compare(before, after *Index, changed func(old, now *entry) bool) []Change {
	var changes []Change
	old, now := before.entries, after.entries
	for len(old) > 0 || len(now) > 0 {
		var order int
		switch {
		case len(old) == 0:
			order = 1
		case len(now) == 0:
			order = -1
		default:
			order = walkLess(old[0].path, now[0].path)
		}
		switch {
		case order > 0:
			changes = append(changes, Change{Path: now[0].path, Kind: Added})
			now = now[1:]
		case order < 0:
			changes = append(changes, Change{Path: old[0].path, Kind: Deleted})
			old = skipBelow(old)
		default:
			if changed(&old[0], &now[0]) {
				changes = append(changes, Change{Path: now[0].path, Kind: Modified})
			}
			if isType(now[0].mode, unix.S_IFDIR) {
				old = old[1:]
			} else {
				old = skipBelow(old) // A file in a folder's place hides what was there.
			}
			now = now[1:]
		}
	}
	return changes
}

// skipBelow drops the first entry and what lies below it.
func skipBelow(entries []entry) []entry {
	dir, rest := entries[0].path, entries[1:]
	for len(rest) > 0 && below(rest[0].path, dir) {
		rest = rest[1:]
	}
	return rest
}

// modified reports whether one path counts as changed.
func modified(old, now *entry, touched bool) bool {
	if old.mode != now.mode || old.uid != now.uid || old.gid != now.gid ||
		old.rdev != now.rdev || old.link != now.link || old.xattrs != now.xattrs {
		return true
	}
	if isType(now.mode, unix.S_IFDIR) {
		return false
	}
	if old.size != now.size || old.mtime != now.mtime {
		return true
	}
	if !isType(now.mode, unix.S_IFREG) {
		return false
	}
	return old.ino != now.ino || old.nlink != now.nlink || !touched && old.ctime != now.ctime
}
