package layer

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// manyFiles is a layer of 30,000 small files in 1,500 folders.
func manyFiles(b *testing.B) []byte {
	b.Helper()
	items := make([]item, 0, 31_500)
	for d := range 1500 {
		name := fmt.Sprintf("usr/lib/app/%d/%d", d/50, d)
		items = append(items, dir(name))
		for f := range 20 {
			items = append(items, file(fmt.Sprintf("%s/file-%d.txt", name, f), strings.Repeat("some content\n", 150)))
		}
	}
	return tarOf(&testing.T{}, items...)
}

func BenchmarkApply(b *testing.B) {
	layer := manyFiles(b)
	for b.Loop() {
		b.StopTimer()
		root := b.TempDir()
		b.StartTimer()
		if _, err := Apply(b.Context(), root, bytes.NewReader(layer), newOptions()); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		_ = os.RemoveAll(root)
		b.StartTimer()
	}
}

// benchTree unpacks manyFiles.
func benchTree(b *testing.B) string {
	b.Helper()
	root := b.TempDir()
	if _, err := Apply(b.Context(), root, bytes.NewReader(manyFiles(b)), newOptions()); err != nil {
		b.Fatal(err)
	}
	return root
}

func BenchmarkScan(b *testing.B) {
	root := benchTree(b)
	for b.Loop() {
		x, err := Scan(b.Context(), root, ScanOptions{})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(x.Len()), "files")
	}
}

// The scan after a command that changed nothing, as each RUN in place has one.
func BenchmarkScanAgain(b *testing.B) {
	root := benchTree(b)
	before, err := Scan(b.Context(), root, ScanOptions{})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		after, err := Scan(b.Context(), root, ScanOptions{Before: before})
		if err != nil {
			b.Fatal(err)
		}
		if changes := Compare(before, after, nil); len(changes) > 0 {
			b.Fatalf("changes: %v", changes)
		}
	}
}

func BenchmarkWrite(b *testing.B) {
	root := benchTree(b)
	x, err := Scan(b.Context(), root, ScanOptions{})
	if err != nil {
		b.Fatal(err)
	}
	changes := Compare(&Index{}, x, nil)
	for b.Loop() {
		if _, err := Write(b.Context(), io.Discard, root, changes, WriteOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPack(b *testing.B) {
	root := b.TempDir()
	var line strings.Builder
	for i := range 4_000_000 {
		fmt.Fprintf(&line, "%d %x\n", i, i*i)
	}
	if err := os.WriteFile(filepath.Join(root, "big"), []byte(line.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(line.Len()))
	for b.Loop() {
		if _, err := Pack(b.Context(), b.TempDir(), root, []Change{{"big", Added}}, WriteOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}
