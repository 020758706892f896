{{- define "letheon.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "letheon.selector" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "letheon.labels" -}}
{{ include "letheon.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: letheon
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{- define "letheon.metadata" -}}
name: {{ include "letheon.fullname" .root }}-{{ .name }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "letheon.labels" . | nindent 2 }}
{{- end -}}

{{- define "letheon.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ default .root.Chart.AppVersion .image.tag }}
{{- end -}}
{{- end -}}

{{- define "letheon.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "letheon.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "letheon.spread" -}}
{{- range tuple "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
- maxSkew: 1
  topologyKey: {{ . }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "letheon.selector" $ | nindent 6 }}
{{- end }}
{{- end -}}

{{- define "letheon.probe" -}}
grpc:
  port: {{ .port }}
  service: {{ .service }}
periodSeconds: {{ .period }}
timeoutSeconds: 3
failureThreshold: {{ .failures }}
{{- end -}}

{{/* Names of what comes from elsewhere, or from the demo parts of this chart. */}}
{{- define "letheon.hasDemo" -}}
{{- if or .Values.demo.redis.enabled .Values.demo.postgresql.enabled .Values.demo.storage.enabled -}}
true
{{- end -}}
{{- end -}}

{{- define "letheon.storageUrl" -}}
{{ ternary "s3://letheon/federation-1" .Values.storage.url .Values.demo.storage.enabled }}
{{- end -}}

{{- define "letheon.storageOptions" -}}
{{- $demo := dict "endpoint_url" (printf "http://%s-demo-storage.%s.svc:9000" (include "letheon.fullname" .) .Release.Namespace) -}}
{{ toJson (ternary $demo .Values.storage.options .Values.demo.storage.enabled) }}
{{- end -}}

{{- define "letheon.storageEnv" -}}
{{- $demo := .Values.demo.storage.enabled -}}
{{- $secret := ternary (printf "%s-demo" (include "letheon.fullname" .)) .Values.storage.existingSecret $demo -}}
{{- if $secret -}}
- name: LETHEON_STORAGE__OPTIONS__KEY
  valueFrom:
    secretKeyRef: {name: {{ $secret }}, key: {{ ternary "storage-key" .Values.storage.accessKeyKey $demo }}}
- name: LETHEON_STORAGE__OPTIONS__SECRET
  valueFrom:
    secretKeyRef: {name: {{ $secret }}, key: {{ ternary "storage-secret" .Values.storage.secretKeyKey $demo }}}
{{- end -}}
{{- end -}}

{{- define "letheon.redisSecret" -}}
{{- if .Values.demo.redis.enabled -}}
{{ include "letheon.fullname" . }}-demo
{{- else -}}
{{ .Values.redis.existingSecret }}
{{- end -}}
{{- end -}}

{{- define "letheon.databaseSecret" -}}
{{- if .Values.demo.postgresql.enabled -}}
{{ include "letheon.fullname" . }}-demo
{{- else -}}
{{ .Values.database.existingSecret }}
{{- end -}}
{{- end -}}

{{- define "letheon.tlsSecret" -}}
{{- if eq .Values.tls.mode "certManager" -}}
{{ include "letheon.fullname" . }}-coordinator-tls
{{- else -}}
{{ .Values.tls.existingSecret }}
{{- end -}}
{{- end -}}

{{- define "letheon.redisEnv" -}}
- name: LETHEON_REDIS_URL
  valueFrom:
    secretKeyRef:
      name: {{ include "letheon.redisSecret" . }}
      key: {{ ternary "redis-url" .Values.redis.secretKey .Values.demo.redis.enabled }}
{{- end -}}

{{- define "letheon.databaseEnv" -}}
- name: LETHEON_DATABASE__URL
  valueFrom:
    secretKeyRef:
      name: {{ include "letheon.databaseSecret" . }}
      key: {{ ternary "database-url" .Values.database.secretKey .Values.demo.postgresql.enabled }}
{{- end -}}

{{/* What cannot work is refused here, in one sentence. */}}
{{- define "letheon.check" -}}
{{- $sqlite := eq .Values.database.type "sqlite" -}}
{{- if and $sqlite (gt (int .Values.coordinator.replicas) 1) -}}
{{- fail "coordinator.replicas is more than 1 with database.type sqlite: SQLite is a file that one pod can open. Set database.type to postgresql, or coordinator.replicas to 1." -}}
{{- end -}}
{{- if and (not .Values.demo.redis.enabled) (not .Values.redis.existingSecret) -}}
{{- fail "redis.existingSecret is not set: make a Secret whose key `url` holds the URL of your Redis or Valkey, and name it. (demo.redis.enabled starts one that keeps nothing, for a trial.)" -}}
{{- end -}}
{{- if and (not $sqlite) (not .Values.demo.postgresql.enabled) (not .Values.database.existingSecret) -}}
{{- fail "database.existingSecret is not set: make a Secret whose key `url` holds postgresql+psycopg://USER:PASSWORD@HOST/DATABASE, and name it. (demo.postgresql.enabled starts a small one, for a trial.)" -}}
{{- end -}}
{{- if and $sqlite .Values.demo.postgresql.enabled -}}
{{- fail "demo.postgresql.enabled is set with database.type sqlite: set database.type to postgresql." -}}
{{- end -}}
{{- if and (not $sqlite) (not .Values.storage.url) (not .Values.demo.storage.enabled) -}}
{{- fail "storage.url is not set with database.type postgresql: a standby must find the payloads. Name s3://bucket/prefix, or file:///folder with storage.volume, a volume that every pod can mount. (demo.storage.enabled starts a small store that keeps nothing, for a trial.)" -}}
{{- end -}}
{{- if and .Values.demo.storage.enabled (or .Values.storage.url .Values.storage.volume .Values.storage.existingSecret) -}}
{{- fail "demo.storage.enabled is set, and so is storage.url, storage.volume or storage.existingSecret: files go to one store. Leave storage empty, or turn the demo's off." -}}
{{- end -}}
{{- if and (hasPrefix "file://" .Values.storage.url) (not .Values.storage.volume) -}}
{{- fail "storage.volume is not set, and storage.url is a folder: name the volume that is mounted there." -}}
{{- end -}}
{{- if and (not .Values.federation.volume) (not (hasKey .Values.coordinator.config "federation_dir")) -}}
{{- fail "federation.volume is not set: name a volume that holds plan.json and initial.safetensors, as `letheon federation init` wrote them. It is read at the first start." -}}
{{- end -}}
{{- if and (eq .Values.tls.mode "existingSecret") (not .Values.tls.existingSecret) -}}
{{- fail "tls.existingSecret is not set with tls.mode existingSecret: name a Secret with tls.crt, tls.key and ca.crt." -}}
{{- end -}}
{{- if and (eq .Values.tls.mode "certManager") (not .Values.tls.certManager.issuerRef) -}}
{{- fail "tls.certManager.issuerRef is not set with tls.mode certManager: name the Issuer or ClusterIssuer, such as {name: federation-ca, kind: Issuer}." -}}
{{- end -}}
{{- if and .Values.tombstones.volume (not .Values.tombstones.keySecret) (gt (int .Values.coordinator.replicas) 1) -}}
{{- fail "tombstones.keySecret is not set with several coordinators: they sign one log with one key. Make a Secret with an Ed25519 key in PEM form, and name it." -}}
{{- end -}}
{{- if .Values.calibrator.enabled -}}
{{- if and (not .Values.calibrator.signingKeySecret) (not .Values.demo.redis.enabled) -}}
{{- fail "calibrator.signingKeySecret is not set: certificates are signed with it for years. Make a Secret with an Ed25519 key in PEM form (openssl genpkey -algorithm ed25519), and name it." -}}
{{- end -}}
{{- if and (not .Values.calibrator.tlsSecret) (ne .Values.tls.mode "certManager") -}}
{{- fail "calibrator.tlsSecret is not set, and the coordinator asks for certificates: name a Secret with tls.crt, tls.key and ca.crt of the calibrator." -}}
{{- end -}}
{{- if and .Values.calibrator.keda.enabled (not .Values.calibrator.keda.address) -}}
{{- fail "calibrator.keda.address is not set: KEDA reads the stream by itself, at host:port of your Redis." -}}
{{- end -}}
{{- end -}}
{{- if and .Values.gateway.enabled (or (not .Values.gateway.parentRefs) (not .Values.gateway.hostnames)) -}}
{{- fail "gateway.parentRefs and gateway.hostnames are due when gateway.enabled is set: they name the Gateway, and the host that agents connect to." -}}
{{- end -}}
{{- if and (not $sqlite) (not .Values.signing.keySecret) (or (not .Values.demo.postgresql.enabled) (gt (int .Values.coordinator.replicas) 1)) -}}
{{- fail "signing.keySecret is not set with database.type postgresql: sites know the coordinator by this key, and a pod that made its own would be a stranger. Make a Secret with an Ed25519 key in PEM form, and name it." -}}
{{- end -}}
{{- if not .Values.federation.name -}}
{{- fail "federation.name is not set: it stands in the certificate of everybody, as in letheon://NAME/site/north. Take the name that the authority was made with." -}}
{{- end -}}
{{- if and .Values.enrolment.enabled (not .Values.enrolment.caVolume) -}}
{{- fail "enrolment.caVolume is not set: the coordinator signs the certificates of sites with the authority of `letheon ca init`; name a volume that holds its folder." -}}
{{- end -}}
{{- if and .Values.encryption.enabled (not .Values.encryption.volume) -}}
{{- fail "encryption.volume is not set: the keys of payloads need a volume of their own, outside of every backup of the payloads." -}}
{{- end -}}
{{- end -}}

{{/* Keys lie beside their list and their public half, which are written: a Secret cannot be. */}}
{{- define "letheon.keysInit" -}}
- name: keys
  image: {{ include "letheon.image" (dict "root" .root "image" .image) }}
  imagePullPolicy: {{ .image.pullPolicy }}
  command: [sh, -euc, "cp -L /secret/* /keys/ && chmod 0600 /keys/*"]
  securityContext:
    {{- include "letheon.containerSecurity" . | nindent 4 }}
  resources:
    requests: {cpu: 10m, memory: 16Mi}
    limits: {memory: 64Mi}
  volumeMounts:
    - {name: signing-secret, mountPath: /secret, readOnly: true}
    - {name: signing, mountPath: /keys}
{{- end -}}

{{- define "letheon.keysVolumes" -}}
- name: signing-secret
  secret: {secretName: {{ . }}, defaultMode: 0440}
- name: signing
  emptyDir: {medium: Memory, sizeLimit: 1Mi}
{{- end -}}
