// Package kubernetes_test checks docker/kubernetes offline: kustomize builds the manifests, and each object is decoded strictly with the type of
// the Kubernetes API, so a wrong field or a wrong type is an error. What a cluster would do with the objects is not tested.
package kubernetes_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

const folder = "../../docker/kubernetes"

// manifests are the objects by their kind and name.
type manifests map[string]runtime.Object

// build returns the objects that `kubectl apply -k docker/kubernetes` would send.
func build(t *testing.T) manifests {
	t.Helper()
	return buildFolder(t, folder)
}

func buildFolder(t *testing.T, folder string) manifests {
	t.Helper()
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), folder)
	require.NoError(t, err)
	text, err := built.AsYaml()
	require.NoError(t, err)
	return decode(t, string(text))
}

func decode(t *testing.T, text string) manifests {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		appsv1.AddToScheme, batchv1.AddToScheme, corev1.AddToScheme, networkingv1.AddToScheme, policyv1.AddToScheme,
	} {
		require.NoError(t, add(scheme))
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	found := make(manifests)
	for _, document := range strings.Split(text, "\n---\n") {
		object, kind, err := decoder.Decode([]byte(document), nil, nil)
		require.NoError(t, err, document)
		found[kind.Kind+"/"+object.(metav1.Object).GetName()] = object
	}
	return found
}

// pods returns the templates of the pods, by the name of their owner.
func (m manifests) pods() map[string]corev1.PodTemplateSpec {
	found := make(map[string]corev1.PodTemplateSpec)
	for _, object := range m {
		switch owner := object.(type) {
		case *appsv1.Deployment:
			found[owner.Name] = owner.Spec.Template
		case *batchv1.Job:
			found[owner.Name] = owner.Spec.Template
		}
	}
	return found
}

// TestManifestsAreValid checks that kustomize builds the manifests, that the API's types have every field of them, and that a wrong field would
// be found.
func TestManifestsAreValid(t *testing.T) {
	m := build(t)
	for _, name := range []string{
		"Namespace/outboxie", "Job/migrate", "Deployment/api", "Deployment/relay", "Deployment/subscriber-totals", "Service/api",
		"PodDisruptionBudget/api", "PodDisruptionBudget/relay", "PodDisruptionBudget/subscriber-totals", "NetworkPolicy/deny-all",
	} {
		require.Contains(t, m, name)
	}
	for name, object := range m {
		if !strings.HasPrefix(name, "Namespace/") {
			require.Equal(t, "outboxie", object.(metav1.Object).GetNamespace(), name)
		}
	}
	decoder := serializer.NewCodecFactory(runtime.NewScheme(), serializer.EnableStrict).UniversalDeserializer()
	_, _, err := decoder.Decode([]byte("apiVersion: apps/v1\nkind: Deployment\nspec: {replica: 3}\n"), nil, nil)
	require.Error(t, err)
}

// settings returns the data of the only config map.
func (m manifests) settings(t *testing.T) map[string]string {
	t.Helper()
	var found []map[string]string
	for _, object := range m {
		if config, ok := object.(*corev1.ConfigMap); ok {
			found = append(found, config.Data)
		}
	}
	require.Len(t, found, 1)
	return found[0]
}

// TestAPIAsksForTokens checks that the API needs an issuer of tokens, that the issuer in the manifests exists nowhere, that a policy lets
// each pod that accepts tokens reach an issuer, and that the overlay of docs/kubernetes.md replaces the issuer and keeps the other settings.
func TestAPIAsksForTokens(t *testing.T) {
	m := build(t)
	settings := m.settings(t)
	require.NotContains(t, settings, "AUTH")
	require.Regexp(t, `^https://[^/]+\.example$`, settings["AUTH_ISSUER"], "nobody can have a name in the domain example (RFC 2606)")
	require.NotEmpty(t, settings["AUTH_AUDIENCE"])
	policy := m["NetworkPolicy/issuer"].(*networkingv1.NetworkPolicy)
	selector, err := metav1.LabelSelectorAsSelector(&policy.Spec.PodSelector)
	require.NoError(t, err)
	for name, pod := range m.pods() {
		require.Equal(t, name != "migrate", selector.Matches(labels.Set(pod.Labels)), name)
	}
	require.Equal(t, "443", policy.Spec.Egress[0].Ports[0].Port.String())

	_, overlay, found := strings.Cut(read(t, "../../docs/kubernetes.md"), "```yaml\n")
	require.True(t, found)
	overlay, _, _ = strings.Cut(overlay, "```")
	own := buildOverlay(t, overlay).settings(t)
	require.Equal(t, "https://id.example.com", own["AUTH_ISSUER"])
	require.Len(t, own, len(settings))
	require.Equal(t, settings["NATS_URL"], own["NATS_URL"])

	off := strings.Replace(overlay, `["AUTH_ISSUER=https://id.example.com", AUTH_AUDIENCE=orders]`, `["AUTH_ISSUER=", "AUTH_AUDIENCE=", "AUTH=off"]`, 1)
	open := buildOverlay(t, off).settings(t)
	require.Empty(t, open["AUTH_ISSUER"]+open["AUTH_AUDIENCE"])
	require.Equal(t, "off", open["AUTH"])
}

// buildOverlay builds an overlay of docs/kubernetes.md, which is indented there. It names this repository's manifests as ../outboxie/docker/kubernetes.
func buildOverlay(t *testing.T, text string) manifests {
	t.Helper()
	place := t.TempDir()
	base, err := filepath.Abs(folder)
	require.NoError(t, err)
	base, err = filepath.Rel(place, base)
	require.NoError(t, err)
	text = strings.ReplaceAll(strings.TrimPrefix(text, "   "), "\n   ", "\n")
	text = strings.Replace(text, "../outboxie/docker/kubernetes", base, 1)
	require.NoError(t, os.WriteFile(filepath.Join(place, "kustomization.yaml"), []byte(text), 0o600))
	return buildFolder(t, place)
}

// TestPodsHaveFewRights checks that each pod meets the standard "restricted" for pods, writes to no root file system, gets no token of the
// cluster, and is bounded in its memory.
func TestPodsHaveFewRights(t *testing.T) {
	for name, pod := range build(t).pods() {
		require.False(t, *pod.Spec.AutomountServiceAccountToken, name)
		require.True(t, *pod.Spec.SecurityContext.RunAsNonRoot, name)
		require.Equal(t, corev1.SeccompProfileTypeRuntimeDefault, pod.Spec.SecurityContext.SeccompProfile.Type, name)
		for _, container := range pod.Spec.Containers {
			require.False(t, *container.SecurityContext.AllowPrivilegeEscalation, name)
			require.True(t, *container.SecurityContext.ReadOnlyRootFilesystem, name)
			require.Equal(t, []corev1.Capability{"ALL"}, container.SecurityContext.Capabilities.Drop, name)
			require.False(t, container.Resources.Limits.Memory().IsZero(), name)
			require.False(t, container.Resources.Requests.Cpu().IsZero(), name)
			require.NotContains(t, container.Image, "latest", name)
		}
	}
}

// TestDeploymentsSurviveARestart checks the probes, the time that a process has to stop, the budget, and that a new process starts before an
// old one stops. The budget and the Service select the pods of their deployment.
func TestDeploymentsSurviveARestart(t *testing.T) {
	m := build(t)
	for _, name := range []string{"api", "relay", "subscriber-totals"} {
		deployment := m["Deployment/"+name].(*appsv1.Deployment)
		require.GreaterOrEqual(t, *deployment.Spec.Replicas, int32(2), name)
		require.Zero(t, deployment.Spec.Strategy.RollingUpdate.MaxUnavailable.IntValue(), name)
		pod := deployment.Spec.Template
		container := pod.Spec.Containers[0]
		require.Equal(t, "/readyz", container.ReadinessProbe.HTTPGet.Path, name)
		require.Equal(t, "/healthz", container.LivenessProbe.HTTPGet.Path, name)
		require.Greater(t, container.StartupProbe.FailureThreshold*container.StartupProbe.PeriodSeconds, int32(30), name)
		stop := int64(30)
		if container.Lifecycle != nil {
			stop += container.Lifecycle.PreStop.Sleep.Seconds
		}
		require.Greater(t, *pod.Spec.TerminationGracePeriodSeconds, stop, name)

		budget := m["PodDisruptionBudget/"+name].(*policyv1.PodDisruptionBudget)
		selector, err := metav1.LabelSelectorAsSelector(budget.Spec.Selector)
		require.NoError(t, err)
		for other, pod := range m.pods() {
			require.Equal(t, other == name, selector.Matches(labels.Set(pod.Labels)), "%s and the budget of %s", other, name)
		}
	}
	require.NotNil(t, m["Deployment/api"].(*appsv1.Deployment).Spec.Template.Spec.Containers[0].Lifecycle.PreStop.Sleep, "the API drains")
	service := m["Service/api"].(*corev1.Service)
	for name, pod := range m.pods() {
		require.Equal(t, name == "api", labels.SelectorFromSet(service.Spec.Selector).Matches(labels.Set(pod.Labels)), name)
	}
}

// TestManifestsNameWhatThereIs checks that every variable is a setting in docs/configuration.md, that every secret has an example, that every
// role of the database is one of docker/roles.sql, and that every port of a probe or a policy is a port of a container.
func TestManifestsNameWhatThereIs(t *testing.T) {
	m := build(t)
	settings := read(t, "../../docs/configuration.md")
	examples := decode(t, read(t, folder+"/secrets.example.yaml"))
	roles := read(t, "../../docker/roles.sql")
	for name, example := range examples {
		for _, value := range example.(*corev1.Secret).StringData {
			if role := regexp.MustCompile(`//(\w+):`).FindStringSubmatch(value); role != nil {
				require.Contains(t, roles, "'"+role[1]+"'", name)
			}
		}
	}
	documented := func(variable string) {
		require.True(t, strings.Contains(settings, "`"+variable+"`") || strings.HasPrefix(variable, "OTEL_"), variable)
	}
	for name, object := range m {
		if config, ok := object.(*corev1.ConfigMap); ok {
			for variable := range config.Data {
				documented(variable)
			}
			require.Contains(t, name, "outboxie-", "a change of the settings restarts the pods")
		}
	}
	ports := map[string]bool{"5432": true, "4222": true, "4318": true, "53": true, "443": true} // of other servers
	for _, pod := range m.pods() {
		for _, container := range pod.Spec.Containers {
			for _, variable := range container.Env {
				documented(variable.Name)
				if from := variable.ValueFrom; from != nil && from.SecretKeyRef != nil {
					require.Contains(t, examples, "Secret/"+from.SecretKeyRef.Name)
					require.Contains(t, examples["Secret/"+from.SecretKeyRef.Name].(*corev1.Secret).StringData, from.SecretKeyRef.Key)
				}
			}
			for _, port := range container.Ports {
				ports[port.Name] = true
				ports[strconv.Itoa(int(port.ContainerPort))] = true
			}
		}
	}
	for name, object := range m {
		policy, ok := object.(*networkingv1.NetworkPolicy)
		if !ok {
			continue
		}
		for _, rule := range policy.Spec.Ingress {
			for _, port := range rule.Ports {
				require.Contains(t, ports, port.Port.String(), name)
			}
		}
		for _, rule := range policy.Spec.Egress {
			for _, port := range rule.Ports {
				require.Contains(t, ports, port.Port.String(), name)
			}
		}
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	return string(text)
}
