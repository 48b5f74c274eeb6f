package inputs

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// Attestations are what "provenance", "sbom" and "attests" say together.
type Attestations struct {
	// Provenance is "min" or "max", or empty for none; Version is that of its
	// predicate, v1 or v0.2, BuilderID a URI or empty.
	Provenance, Version, BuilderID string
	// Reproducible is what the provenance says of the build.
	Reproducible bool
	// SBOM attaches the list of packages.
	SBOM bool
}

const fixAttests = "Write type=sbom, or type=provenance with mode=min|max, version=v1|v0.2, builder-id=URI, reproducible=true or disabled=true."

// attestations reads the three inputs; those with a name of their own win.
func (p *parser) attestations(b *Build) {
	a := &b.Attestations
	seen := map[string]bool{}
	for _, entry := range p.list("attests", false) {
		attributes, err := splitAttributes(entry.text)
		kind := attributes["type"]
		if err == nil && seen[kind] {
			err = fmt.Errorf("type=%s stands there twice", kind)
		}
		seen[kind] = true
		if err == nil {
			delete(attributes, "type")
			err = a.set(kind, attributes)
		}
		if err != nil {
			p.fail("attests", entry.text, fixAttests, fmt.Errorf("line %d: %w", entry.line, err))
		}
	}
	for _, kind := range []string{"provenance", "sbom"} {
		v := p.single(kind, "Write one line.")
		if v == "" {
			continue
		}
		attributes := map[string]string{}
		var err error
		switch v {
		case "true", "True", "TRUE":
		case "false", "False", "FALSE":
			attributes["disabled"] = "true"
		default:
			attributes, err = splitAttributes(v)
		}
		if err == nil {
			err = a.set(kind, attributes)
		}
		if err != nil {
			p.fail(kind, v, "Write true or false, or for provenance mode=min or mode=max.", err)
		}
	}
}

// splitAttributes reads KEY=VALUE with commas between them.
func splitAttributes(text string) (map[string]string, error) {
	attributes := map[string]string{}
	for part := range strings.SplitSeq(text, ",") {
		key, value, found := strings.Cut(strings.TrimSpace(part), "=")
		if !found {
			return nil, fmt.Errorf("%q is not KEY=VALUE", part)
		}
		if _, twice := attributes[key]; twice {
			return nil, fmt.Errorf("%q stands there twice", key)
		}
		attributes[key] = strings.TrimSpace(value)
	}
	return attributes, nil
}

// set takes what is said of one kind in place of what was said before.
func (a *Attestations) set(kind string, attributes map[string]string) error {
	disabled, err := attributeBool(attributes, "disabled")
	if err != nil {
		return err
	}
	delete(attributes, "disabled")
	switch kind {
	case "sbom":
		if generator := attributes["generator"]; generator != "" {
			return fmt.Errorf("generator=%s: Towline lists the packages itself and runs no other program for it", generator)
		}
		for key := range attributes {
			return fmt.Errorf("%q is not an attribute of an SBOM", key)
		}
		a.SBOM = !disabled
		return nil
	case "provenance":
		next := Attestations{SBOM: a.SBOM}
		if !disabled {
			err = next.provenance(attributes)
		}
		*a = next
		return err
	case "":
		return errors.New("it has no type")
	}
	return fmt.Errorf("type=%s: it is sbom or provenance", kind)
}

func (a *Attestations) provenance(attributes map[string]string) (err error) {
	a.Provenance, a.Version = "min", "v1"
	for key, value := range attributes {
		switch key {
		case "mode":
			if value != "min" && value != "max" {
				return fmt.Errorf("mode=%s: it is min or max", value)
			}
			a.Provenance = value
		case "version":
			if value != "v1" && value != "v0.2" {
				return fmt.Errorf("version=%s: it is v1 or v0.2", value)
			}
			a.Version = value
		case "builder-id":
			if u, parseErr := url.Parse(value); parseErr != nil || u.Scheme == "" {
				return fmt.Errorf("builder-id=%s: it is no URI", value)
			}
			a.BuilderID = value
		case "reproducible":
			if a.Reproducible, err = attributeBool(attributes, key); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%q is not an attribute of a provenance that Towline writes", key)
		}
	}
	return nil
}

func attributeBool(attributes map[string]string, key string) (bool, error) {
	switch value := cmp.Or(attributes[key], "false"); value {
	case "true":
		return true, nil
	case "false":
		return false, nil
	default:
		return false, fmt.Errorf("%s=%s: it is true or false", key, value)
	}
}

// checkAttestations refuses attestations that have no place or no build.
func (p *parser) checkAttestations(s Settings) {
	if s.Build.Attestations == (Attestations{}) {
		return
	}
	input := cmp.Or(p.givenAmong("provenance"), p.givenAmong("sbom"), "attests")
	input = strings.Trim(input, `"`)
	switch {
	case s.Build.Manifests.DockerTypes:
		p.failf(input, p.values[input], "Remove oci-mediatypes=false from \"outputs\", or \"provenance\", \"sbom\" and \"attests\".", "Docker's media types have no place for attestations")
	case s.Merges():
		p.failf(input, p.values[input], "Give it to the jobs that build the images: what they attest is taken along.", "nothing is built when digests are merged")
	case p.given("image"):
		p.failf(input, p.values[input], "Remove it, or remove \"image\" to build one.", "nothing is built when an image is given")
	}
}
