"""The dashboard for operators. Grafana reads kindred.json; dashboard.py writes it."""
