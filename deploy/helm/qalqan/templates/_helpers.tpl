{{- define "qalqan.image" -}}
{{- with .Values.image.registry }}{{ . }}/{{ end }}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "qalqan.labels" -}}
app.kubernetes.io/name: qalqan
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "qalqan.selector" -}}
app.kubernetes.io/name: qalqan
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* Of Kafka's clients: the cluster that Strimzi makes, or another. */}}
{{- define "qalqan.bootstrap" -}}
{{- if .Values.kafka.strimzi }}qalqan-kafka-bootstrap:9093{{ else }}{{ required "kafka.bootstrapServers, where Strimzi does not make the cluster" .Values.kafka.bootstrapServers }}{{ end }}
{{- end }}
{{- define "qalqan.ca" -}}
{{- if .Values.kafka.strimzi }}qalqan-cluster-ca-cert{{ else }}{{ required "kafka.caSecret, where Strimzi does not make the cluster" .Values.kafka.caSecret }}{{ end }}
{{- end }}

{{- define "qalqan.kafka" -}}
- {name: KAFKA_BOOTSTRAP_SERVERS, value: {{ include "qalqan.bootstrap" .root | quote }}}
- {name: KAFKA_SECURITY_PROTOCOL, value: SASL_SSL}
- {name: KAFKA_SASL_MECHANISM, value: SCRAM-SHA-512}
- {name: KAFKA_SASL_USERNAME, value: {{ .user }}}
- name: KAFKA_SASL_PASSWORD
  valueFrom: {secretKeyRef: {name: kafka-{{ .user }}, key: password}}
- {name: KAFKA_SSL_CAFILE, value: /run/kafka/ca.crt}
{{- end }}

{{- define "qalqan.database" -}}
- name: PGPASSWORD
  valueFrom: {secretKeyRef: {name: {{ .root.Values.secrets.database }}, key: {{ .key }}}}
- name: DATABASE_URL
  value: postgresql://{{ .user }}@{{ .root.Values.database.host }}:{{ .root.Values.database.port }}/{{ .root.Values.database.name }}{{ .root.Values.database.parameters }}
{{- end }}

{{- define "qalqan.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 1000
  runAsGroup: 1000
  fsGroup: 1000
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "qalqan.container" -}}
image: {{ include "qalqan.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- define "qalqan.replicas" -}}
{{- $all := list }}
{{- range $service, $_ := .Values.services }}
{{- range $number := until (int $.Values.replicas) }}
{{- $all = append $all (printf "%s=http://%s-%d.%s-replicas:8080" $service $service $number $service) }}
{{- end }}
{{- end }}
{{- join "," $all }}
{{- end }}
