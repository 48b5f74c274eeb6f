package registry

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	ecrtypes "github.com/aws/aws-sdk-go-v2/service/ecr/types"
	"github.com/aws/aws-sdk-go-v2/service/ecrpublic"
)

// ECR asks Amazon ECR with an AWS configuration. It implements ECRTokens.
type ECR struct {
	config aws.Config
}

// NewECR makes an ECR from config, whose region is the default one.
func NewECR(config aws.Config) *ECR { return &ECR{config: config} }

// Region implements ECRTokens.
func (e *ECR) Region() string { return e.config.Region }

func (e *ECR) client(at Place) *ecr.Client {
	return ecr.NewFromConfig(e.config, func(o *ecr.Options) {
		if at.Region != "" {
			o.Region = at.Region
		}
	})
}

// public asks ECR Public, whose API is in us-east-1 alone; see
// https://docs.aws.amazon.com/AmazonECR/latest/public/public-registries.html.
func (e *ECR) public() *ecrpublic.Client {
	return ecrpublic.NewFromConfig(e.config, func(o *ecrpublic.Options) { o.Region = "us-east-1" })
}

// Token implements ECRTokens; see
// https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetAuthorizationToken.html.
func (e *ECR) Token(ctx context.Context, at Place) (Token, error) {
	if at.Public {
		out, err := e.public().GetAuthorizationToken(ctx, &ecrpublic.GetAuthorizationTokenInput{})
		if err != nil {
			return Token{}, err
		}
		if out.AuthorizationData == nil {
			return Token{}, errors.New("ecr-public:GetAuthorizationToken answered without authorization data")
		}
		return decodeToken(out.AuthorizationData.AuthorizationToken, "https://"+publicHost, out.AuthorizationData.ExpiresAt)
	}
	out, err := e.client(at).GetAuthorizationToken(ctx, &ecr.GetAuthorizationTokenInput{})
	if err != nil {
		return Token{}, err
	}
	if len(out.AuthorizationData) == 0 {
		return Token{}, errors.New("ecr:GetAuthorizationToken answered without authorization data")
	}
	data := out.AuthorizationData[0]
	return decodeToken(data.AuthorizationToken, aws.ToString(data.ProxyEndpoint), data.ExpiresAt)
}

func decodeToken(encoded *string, endpoint string, expires *time.Time) (Token, error) {
	decoded, err := base64.StdEncoding.DecodeString(aws.ToString(encoded))
	if err != nil {
		return Token{}, errors.New("GetAuthorizationToken answered with a token that is not base64")
	}
	user, password, ok := strings.Cut(string(decoded), ":")
	if !ok || password == "" {
		return Token{}, errors.New("GetAuthorizationToken answered with a token that is not user:password")
	}
	return Token{User: user, Password: password, Endpoint: endpoint, Expires: aws.ToTime(expires)}, nil
}

// Repositories implements ECRTokens; see
// https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_DescribeRepositories.html.
func (e *ECR) Repositories(ctx context.Context, at Place, names []string) ([]Repository, error) {
	var found []Repository
	if at.Public {
		out, err := e.public().DescribeRepositories(ctx, &ecrpublic.DescribeRepositoriesInput{RepositoryNames: names})
		if err != nil {
			return nil, err
		}
		for _, r := range out.Repositories {
			found = append(found, Repository{Name: aws.ToString(r.RepositoryName), URI: aws.ToString(r.RepositoryUri)})
		}
		return found, nil
	}
	out, err := e.client(at).DescribeRepositories(ctx, &ecr.DescribeRepositoriesInput{RepositoryNames: names, RegistryId: optional(at.Account)})
	if err != nil {
		return nil, err
	}
	for _, r := range out.Repositories {
		found = append(found, described(r))
	}
	return found, nil
}

func described(found ecrtypes.Repository) Repository {
	r := Repository{
		Name: aws.ToString(found.RepositoryName), URI: aws.ToString(found.RepositoryUri),
		TagMutability: string(found.ImageTagMutability),
	}
	for _, filter := range found.ImageTagMutabilityExclusionFilters {
		r.TagExclusions = append(r.TagExclusions, aws.ToString(filter.Filter))
	}
	if e := found.EncryptionConfiguration; e != nil {
		r.Encryption, r.Key = string(e.EncryptionType), aws.ToString(e.KmsKey)
	}
	if scan := found.ImageScanningConfiguration; scan != nil {
		r.ScanOnPush = scan.ScanOnPush
	}
	return r
}

// Create implements ECRTokens; see
// https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_CreateRepository.html.
func (e *ECR) Create(ctx context.Context, at Place, r Repository) (Repository, error) {
	if at.Public {
		out, err := e.public().CreateRepository(ctx, &ecrpublic.CreateRepositoryInput{RepositoryName: aws.String(r.Name)})
		if err != nil {
			return Repository{}, err
		}
		if out.Repository == nil {
			return Repository{}, errors.New("ecr-public:CreateRepository answered without the repository")
		}
		return Repository{Name: r.Name, URI: aws.ToString(out.Repository.RepositoryUri)}, nil
	}
	in := &ecr.CreateRepositoryInput{
		RepositoryName: aws.String(r.Name), RegistryId: optional(at.Account),
		ImageTagMutability:         ecrtypes.ImageTagMutability(r.TagMutability),
		ImageScanningConfiguration: &ecrtypes.ImageScanningConfiguration{ScanOnPush: r.ScanOnPush},
	}
	for _, tag := range r.TagExclusions {
		in.ImageTagMutabilityExclusionFilters = append(in.ImageTagMutabilityExclusionFilters, ecrtypes.ImageTagMutabilityExclusionFilter{
			Filter: aws.String(tag), FilterType: ecrtypes.ImageTagMutabilityExclusionFilterTypeWildcard,
		})
	}
	out, err := e.client(at).CreateRepository(ctx, in)
	if err != nil {
		return Repository{}, err
	}
	if out.Repository == nil {
		return Repository{}, errors.New("ecr:CreateRepository answered without the repository")
	}
	return described(*out.Repository), nil
}

// CheckLayer implements ECRTokens; see
// https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_BatchCheckLayerAvailability.html.
func (e *ECR) CheckLayer(ctx context.Context, at Place, repository, digest string) error {
	_, err := e.client(at).BatchCheckLayerAvailability(ctx, &ecr.BatchCheckLayerAvailabilityInput{
		RepositoryName: aws.String(repository), RegistryId: optional(at.Account), LayerDigests: []string{digest},
	})
	return err
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return aws.String(s)
}
