package inputs

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAttestations(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		set  map[string]string
		want Attestations
		fail string // in the error; empty: there is none
	}{
		"unset":            {want: Attestations{}},
		"off":              {set: map[string]string{"provenance": "false", "sbom": "False"}, want: Attestations{}},
		"on":               {set: map[string]string{"provenance": "true", "sbom": "true"}, want: Attestations{Provenance: "min", Version: "v1", SBOM: true}},
		"mode":             {set: map[string]string{"provenance": "mode=max,version=v0.2,builder-id=https://x.example/y,reproducible=true"}, want: Attestations{Provenance: "max", Version: "v0.2", BuilderID: "https://x.example/y", Reproducible: true}},
		"list":             {set: map[string]string{"attests": "type=sbom\ntype=provenance,mode=max"}, want: Attestations{Provenance: "max", Version: "v1", SBOM: true}},
		"own name wins":    {set: map[string]string{"attests": "type=sbom\ntype=provenance,mode=max", "provenance": "false"}, want: Attestations{SBOM: true}},
		"disabled":         {set: map[string]string{"attests": "type=sbom,disabled=true"}, want: Attestations{}},
		"unknown mode":     {set: map[string]string{"provenance": "mode=all"}, fail: `mode=all: it is min or max`},
		"not a word":       {set: map[string]string{"sbom": "yes"}, fail: `"yes" is not KEY=VALUE`},
		"generator":        {set: map[string]string{"sbom": "generator=x/y"}, fail: "runs no other program"},
		"unknown type":     {set: map[string]string{"attests": "type=vex"}, fail: "type=vex: it is sbom or provenance"},
		"no type":          {set: map[string]string{"attests": "mode=max"}, fail: "it has no type"},
		"twice":            {set: map[string]string{"attests": "type=sbom\ntype=sbom"}, fail: "stands there twice"},
		"unknown":          {set: map[string]string{"provenance": "inline-only=true"}, fail: "not an attribute"},
		"no URI":           {set: map[string]string{"provenance": "builder-id=me"}, fail: "it is no URI"},
		"docker's types":   {set: map[string]string{"sbom": "true", "tags": "r.example/x:1", "outputs": "type=image,oci-mediatypes=false"}, fail: "no place for attestations"},
		"nothing is built": {set: map[string]string{"sbom": "true", "image": "r.example/x:1"}, fail: "nothing is built"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := Parse(func(name string) string { return tt.set[name] }, func(string) string { return "" })
			text := ""
			if err != nil {
				text = err.Error()
			}
			if tt.fail != "" {
				if !strings.Contains(text, tt.fail) {
					t.Errorf("got the error %q, want %q in it", text, tt.fail)
				}
				return
			}
			for _, input := range []string{`"provenance"`, `"sbom"`, `"attests"`} {
				if strings.Contains(text, input) {
					t.Errorf("got the error %q", text)
				}
			}
			if diff := cmp.Diff(tt.want, s.Build.Attestations); diff != "" {
				t.Errorf("attestations (-want +got):\n%s", diff)
			}
		})
	}
}
