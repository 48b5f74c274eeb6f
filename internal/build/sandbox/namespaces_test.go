package sandbox

import (
	"testing"
)

func testNamespaces(t *testing.T) Sandbox {
	t.Helper()
	s, warning, err := Choose(t.Context(), Namespaces, Options{StateDir: t.TempDir()})
	if err != nil {
		unfit(t, err.Error())
	}
	if warning != "" {
		t.Errorf("warning: %s", warning)
	}
	return s
}

func TestNamespaces(t *testing.T) {
	t.Parallel()
	root := busybox(t)
	s := testNamespaces(t)
	out, err := sh(t, s, root, "id; ps; ls -l /dev; cat /proc/mounts; cat /etc/hosts; grep Cap /proc/self/status; env; hostname; ls -l /proc/1/; pwd", Process{})
	t.Log(out, err)
}
