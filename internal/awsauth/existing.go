package awsauth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"

	"github.com/towline/towline/internal/problem"
)

// surroundings are the credentials that the step finds where it runs, in the
// SDK's order: the environment; a container of ECS, or a pod of EKS; shared
// files; the instance. found is what the SDK has found.
// https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html
func (o Options) surroundings(ctx context.Context, cfg aws.Config) (aws.CredentialsProvider, error) {
	id, secret := o.Getenv("AWS_ACCESS_KEY_ID"), o.Getenv("AWS_SECRET_ACCESS_KEY")
	switch {
	case id != "" && secret != "" && !o.IgnoreKeys:
		return o.kept(credentials.NewStaticCredentialsProvider(id, secret, o.Getenv("AWS_SESSION_TOKEN"))), nil
	case o.Getenv("AWS_PROFILE") == "" && o.Getenv("AWS_WEB_IDENTITY_TOKEN_FILE") == "" && o.containerURI() != "":
		container, err := o.container(cfg)
		if err != nil {
			return nil, err
		}
		return o.kept(container), nil
	case id != "" && o.IgnoreKeys:
		// The SDK would look no further than the keys.
		return o.kept(o.withoutEnvironment(ctx, cfg)), nil
	}
	return o.kept(cfg.Credentials), nil
}

// kept masks what inner gives, and asks it again only before that expires.
func (o Options) kept(inner aws.CredentialsProvider) aws.CredentialsProvider {
	return aws.NewCredentialsCache(masking{inner, o.Mask}, func(c *aws.CredentialsCacheOptions) { c.ExpiryWindow = expiryWindow })
}

func (o Options) containerURI() string {
	if path := o.Getenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"); path != "" {
		return "http://169.254.170.2" + path
	}
	return o.Getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI")
}

// container asks the agent of ECS, or of EKS pod identity.
func (o Options) container(cfg aws.Config) (aws.CredentialsProvider, error) {
	address := o.containerURI()
	if err := checkContainerURI(address); err != nil {
		return nil, &problem.Error{
			Op: opFind, Err: fmt.Errorf("AWS_CONTAINER_CREDENTIALS_FULL_URI: %w", err),
			Fix: "Leave it as ECS or EKS sets it, or use https.",
		}
	}
	token, file := o.Getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN"), o.Getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
	return endpointcreds.New(address, func(e *endpointcreds.Options) {
		if cfg.HTTPClient != nil {
			e.HTTPClient = cfg.HTTPClient
		}
		e.AuthorizationToken = token
		if file != "" {
			e.AuthorizationTokenProvider = endpointcreds.TokenProviderFunc(func() (string, error) {
				content, err := os.ReadFile(file) //nolint:gosec // EKS, or the user, names the file
				if err != nil {
					return "", fmt.Errorf("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: %w", err)
				}
				o.Mask(strings.TrimSpace(string(content)))
				return strings.TrimSpace(string(content)), nil
			})
		}
	}), nil
}

// checkContainerURI lets plain HTTP go to this machine alone, as the SDK does:
// the answer is a secret.
func checkContainerURI(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return errors.New("not an address")
	}
	if u.Scheme == "https" {
		return nil
	}
	ip, err := netip.ParseAddr(u.Hostname())
	if u.Scheme != "http" || u.Hostname() != "localhost" && (err != nil || !ip.IsLoopback() && !isLinkLocalAgent(ip)) {
		return fmt.Errorf("%s is neither https nor on this machine", u.Redacted())
	}
	return nil
}

// isLinkLocalAgent knows the addresses of the agents of ECS and EKS.
func isLinkLocalAgent(ip netip.Addr) bool {
	switch ip.String() {
	case "169.254.170.2", "169.254.170.23", "fd00:ec2::23":
		return true
	}
	return false
}

// withoutEnvironment looks into the shared files, then asks the instance.
func (o Options) withoutEnvironment(ctx context.Context, cfg aws.Config) aws.CredentialsProvider {
	profile := cmp.Or(o.Getenv("AWS_PROFILE"), config.DefaultSharedConfigProfile)
	shared, err := config.LoadSharedConfigProfile(ctx, profile, func(l *config.LoadSharedConfigOptions) {
		if file := o.Getenv("AWS_SHARED_CREDENTIALS_FILE"); file != "" {
			l.CredentialsFiles = []string{file}
		}
		if file := o.Getenv("AWS_CONFIG_FILE"); file != "" {
			l.ConfigFiles = []string{file}
		}
	})
	if err == nil && shared.Credentials.HasKeys() {
		return credentials.StaticCredentialsProvider{Value: shared.Credentials}
	}
	return ec2rolecreds.New(func(e *ec2rolecreds.Options) {
		e.Client = imds.NewFromConfig(cfg, func(i *imds.Options) {
			if o.onGitHub() {
				i.ClientEnableState = imds.ClientDisabled
			}
		})
	})
}

// onGitHub says that the runner is GitHub's: no EC2 instance, whose metadata
// service would only be waited for.
func (o Options) onGitHub() bool { return o.Getenv("RUNNER_ENVIRONMENT") == "github-hosted" }

// existing is the session of the surroundings' credentials if AWS takes them.
func (o Options) existing(ctx context.Context, cfg aws.Config) (*Session, error) {
	found, err := o.surroundings(ctx, cfg)
	if err != nil {
		return nil, err
	}
	cfg.Credentials = found
	if _, err = found.Retrieve(ctx); err != nil {
		return nil, noCredentials(ctx, o, err)
	}
	return identify(ctx, o, cfg)
}
