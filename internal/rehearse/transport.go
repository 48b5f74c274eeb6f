package rehearse

import (
	"cmp"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// played sends what this rehearsal plays to this machine, under the name that
// was asked for, so that all looks as it will on GitHub. The rest, such as the
// registry of a public base image, is what it is.
type played struct {
	// cloud is the emulator's address.
	cloud string
	// registries are other registries that are played: their host, our address.
	registries map[string]string
	// bases is the address of the registry that has all base images, if they are played.
	bases string

	loopback http.Transport
}

// RoundTrip implements http.RoundTripper.
func (p *played) RoundTrip(req *http.Request) (*http.Response, error) {
	address := p.registries[req.URL.Host]
	if inCloud(req.URL.Hostname()) {
		address = p.cloud
	}
	if address == "" && p.bases != "" {
		if !strings.HasPrefix(req.URL.Path, "/v2/") {
			return nil, fmt.Errorf("%s is not asked: only base images are played, and nothing else is reached", req.URL.Host)
		}
		address = p.bases
	}
	if address == "" {
		return remote.DefaultTransport.RoundTrip(req)
	}
	in := req.Clone(req.Context())
	in.Host = cmp.Or(req.Host, req.URL.Host)
	in.URL.Scheme, in.URL.Host = "http", address
	resp, err := p.loopback.RoundTrip(in)
	if err != nil {
		return nil, err
	}
	resp.Request = req
	return resp, nil
}

// inCloud says whether host is GitHub's issuer of ID tokens or one of the AWS
// services that the emulator plays. No request may reach the real ones.
func inCloud(host string) bool {
	return regexp.MustCompile(`(^|\.)actions\.githubusercontent\.com$` +
		`|(^|\.)(sts|iam|secretsmanager|ssm|ecs|logs|codedeploy|(api|dkr)[.-]ecr)([.-][a-z0-9-]+)*\.(amazonaws\.(com|com\.cn|eu)|api\.aws|on\.aws)$` +
		`|starport-layer-bucket`).MatchString(host)
}
