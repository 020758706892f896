{{/* The TOML files of the services; keys of `config` win over those of the chart. */}}
{{- define "letheon.coordinatorConfig" -}}
{{- $values := .Values -}}
{{- $sqlite := eq $values.database.type "sqlite" -}}
{{- $config := dict
      "listen" "0.0.0.0:7300"
      "metrics_listen" "0.0.0.0:9464"
      "health_listen" "0.0.0.0:7301"
      "data_dir" "/var/lib/letheon/coordinator"
      "stop_seconds" $values.coordinator.stopSeconds
      "database" (dict "lease_seconds" $values.database.leaseSeconds)
      "standby" (dict "relay" (not $sqlite)) -}}
{{- if $values.federation.volume -}}
{{- $_ := set $config "federation_dir" "/etc/letheon/federation" -}}
{{- end -}}
{{- with include "letheon.storageUrl" . -}}
{{- $_ := set $config "storage" (dict "url" . "options" (include "letheon.storageOptions" $ | fromJson)) -}}
{{- end -}}
{{- if $values.signing.keySecret -}}
{{- $_ := set $config "signing" (dict "key" (printf "/etc/letheon/signing/%s" $values.signing.keySecretKey)) -}}
{{- end -}}
{{- if $values.tombstones.volume -}}
{{- $tombstones := dict "path" "/var/lib/letheon/tombstones/federation.log" -}}
{{- if $values.tombstones.keySecret -}}
{{- $_ := set $tombstones "key" "/etc/letheon/tombstones/tombstones.pem" -}}
{{- end -}}
{{- $_ := set $config "tombstones" $tombstones -}}
{{- end -}}
{{- $tls := dict
      "federation" $values.federation.name
      "certificate" "/etc/letheon/tls/tls.crt"
      "key" "/etc/letheon/tls/tls.key"
      "client_ca" "/etc/letheon/tls/ca.crt" -}}
{{- if $values.tls.denyListConfigMap -}}
{{- $_ := set $tls "deny_list" "/etc/letheon/deny/deny.list" -}}
{{- end -}}
{{- $_ := set $config "tls" $tls -}}
{{- if $values.enrolment.enabled -}}
{{- $_ := set $config "enrolment" (dict "ca" "/etc/letheon/ca" "listen" "0.0.0.0:7303" "address" $values.enrolment.address) -}}
{{- end -}}
{{- if $values.encryption.enabled -}}
{{- $_ := set $config "encryption" (dict "key_dir" "/var/lib/letheon/keys") -}}
{{- end -}}
{{- toToml (mergeOverwrite $config (deepCopy $values.coordinator.config)) -}}
{{- end -}}

{{- define "letheon.calibratorConfig" -}}
{{- $values := .Values -}}
{{- $config := dict
      "coordinator" (printf "%s-coordinator.%s.svc:%d" (include "letheon.fullname" .) .Release.Namespace (int $values.service.port))
      "metrics_listen" "0.0.0.0:9465"
      "health_listen" "0.0.0.0:7302"
      "state_dir" "/var/lib/letheon/calibrator" -}}
{{- if $values.calibrator.signingKeySecret -}}
{{- $_ := set $config "signing_key" (printf "/etc/letheon/signing/%s" $values.calibrator.signingKeySecretKey) -}}
{{- end -}}
{{- $_ := set $config "tls" (dict
      "ca" "/etc/letheon/tls/ca.crt"
      "certificate" "/etc/letheon/tls/tls.crt"
      "key" "/etc/letheon/tls/tls.key") -}}
{{- toToml (mergeOverwrite $config (deepCopy $values.calibrator.config)) -}}
{{- end -}}
