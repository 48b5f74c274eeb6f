package emulator

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// locate finds the emulated repository that an image reference names; ours is
// false for other registries.
func (c *Cloud) locate(ref string) (repo *repository, id imageID, ours bool) {
	name, digest, _ := strings.Cut(ref, "@")
	host, rest, found := strings.Cut(name, "/")
	if !found || !c.reg.hosts[host] && (!isAWS(host) || strings.Contains(host, ":")) {
		return nil, imageID{ImageDigest: digest}, false
	}
	path, tag, _ := strings.Cut(rest, ":")
	at, repo := c.repositoryAt(c.registryHome(host), path)
	if repo == nil && c.stranger(at) {
		return nil, imageID{ImageDigest: digest}, false
	}
	return repo, imageID{ImageDigest: digest, ImageTag: cmp.Or(tag, "latest")}, true
}

// stranger says whether a registry is of another account, of which nothing is known
// here: what is in it is taken to be there.
func (c *Cloud) stranger(h home) bool {
	if h.account == c.opts.Account {
		return false
	}
	for key := range c.reg.repos {
		if key.home.account == h.account {
			return false
		}
	}
	return true
}

// resolve finds an image's digest, or why it cannot be pulled. Images of other
// registries are taken to be there.
func (c *Cloud) resolve(ref string) (digest, obstacle string) {
	repo, id, ours := c.locate(ref)
	if !ours {
		return id.ImageDigest, ""
	}
	if repo != nil {
		if found, img := repo.find(id); img != nil {
			return found, ""
		}
	}
	return "", fmt.Sprintf("pull image manifest has been retried 7 time(s): failed to resolve ref %[1]s: %[1]s: not found", ref)
}

// pull resolves an image for a machine of that architecture.
func (c *Cloud) pull(ref, architecture string) (digest, obstacle string) {
	digest, obstacle = c.resolve(ref)
	repo, id, ours := c.locate(ref)
	if obstacle != "" || !ours {
		return digest, obstacle
	}
	_, img := repo.find(id)
	fits := func(d v1.Descriptor) bool {
		return d.Platform == nil || d.Platform.OS == "linux" && d.Platform.Architecture == architecture
	}
	if len(img.children) > 0 && !slices.ContainsFunc(img.children, fits) {
		return "", fmt.Sprintf("pull image manifest has been retried 7 time(s): image Manifest does not contain descriptor matching platform 'linux/%s'", architecture)
	}
	return digest, ""
}

// foreign finds a container whose image, not an index, is for another
// architecture: it is pulled and then cannot be executed.
func (t *task) foreign() (k *container, command string) {
	for _, each := range t.containers {
		repo, id, _ := t.service.cloud.locate(each.def.Image)
		if repo == nil {
			continue
		}
		_, img := repo.find(id)
		if img == nil || len(img.children) > 0 {
			continue
		}
		config, err := t.service.cloud.imageConfig(img)
		if err != nil || config.Architecture == "" || config.Architecture == t.deployment.def.architecture {
			continue
		}
		if line := slices.Concat(config.Config.Entrypoint, config.Config.Cmd); len(line) > 0 {
			command = line[0]
		}
		return each, command
	}
	return nil, ""
}

func (c *Cloud) imageConfig(img *image) (*v1.ConfigFile, error) {
	blob, err := c.reg.blobs.open(img.config.Digest.String())
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(blob, maxBody))
	if err != nil {
		return nil, err
	}
	var config v1.ConfigFile
	if err = json.Unmarshal(raw, &config); err != nil {
		return nil, err
	}
	return &config, blob.Close()
}
