{{- define "blindgate.name" -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}-gateway
{{- end }}

{{- define "blindgate.nginx" -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}-nginx
{{- end }}

{{- define "blindgate.labels" -}}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: blindgate
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "blindgate.gateway" -}}
app.kubernetes.io/name: blindgate-gateway
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "blindgate.proxy" -}}
app.kubernetes.io/name: blindgate-nginx
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "blindgate.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "blindgate.environment" -}}
{{- range $name, $value := .Values.settings }}
{{- if ne (toString $value) "" }}
- name: BLINDGATE_GATEWAY_{{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}
# A folder that a gateway makes itself is its user's alone.
- name: BLINDGATE_GATEWAY_DATA
  value: /data/gateway
# It ends with its pod, and the next one is another gateway.
- name: BLINDGATE_GATEWAY_LEAVES
  value: "true"
- name: BLINDGATE_GATEWAY_LOG_KEY
  value: /run/log-key/log.key
- name: BLINDGATE_GATEWAY_DATABASE
  valueFrom: {secretKeyRef: {name: {{ .Values.secret }}, key: database}}
- name: BLINDGATE_GATEWAY_S3_KEY_ID
  valueFrom: {secretKeyRef: {name: {{ .Values.secret }}, key: s3-key-id}}
- name: BLINDGATE_GATEWAY_S3_SECRET
  valueFrom: {secretKeyRef: {name: {{ .Values.secret }}, key: s3-secret}}
- name: BLINDGATE_GATEWAY_METRICS_TOKEN
  valueFrom: {secretKeyRef: {name: {{ .Values.secret }}, key: metrics-token}}
{{- end }}

{{- define "blindgate.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "blindgate.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}
